/** How a client gets at a stream of bytes beside the RPC. */

/** A second connection presents `ticket` on the stream socket and then carries raw frames. Valid once, for seconds. */
export interface StreamTicket {
  /** 64 hex digits. */
  readonly ticket: string;
  readonly streamSocketPath: string;
}
