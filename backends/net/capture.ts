/** The frames of a vif in a file; see capture-ring.ts for the data path's side. */
export interface Capture {
  /** The shared ring queue `i` writes its frames into. */
  ring(i: number): SharedArrayBuffer;
}
