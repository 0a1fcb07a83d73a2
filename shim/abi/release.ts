/** The release of Xen whose interface this is: what XENVER_version, CPUID leaf 1 and the log say. */
export const XEN_MAJOR = 4;
export const XEN_MINOR = 17;
/** As XENVER_version and CPUID report it. */
export const XEN_VERSION = (XEN_MAJOR << 16) | XEN_MINOR;
