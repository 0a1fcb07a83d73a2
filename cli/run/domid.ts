/** The guest's number; there is one guest a process. */
export const DOMID = 1;
