/** Someone at the host's end of a console: sees what the guest prints, and may type. */

/** How an endpoint hands over what was typed. */
export interface Typist {
  /** False asks the endpoint to hold its input until `resume`. */
  type(bytes: Uint8Array): boolean;
}

export interface Endpoint {
  /** `bytes` are only valid during the call. */
  print(bytes: Uint8Array): void;
  /** There is room for input again. */
  resume(): void;
  close(): void;
}

/** Output a reader may be behind before it loses some, or is let go: a guest must not fill our memory. */
export const MAX_BEHIND = 1 << 20;
