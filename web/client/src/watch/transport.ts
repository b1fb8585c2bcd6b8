import type { MessageInitShape } from '@bufbuild/protobuf';
import type { ModifyWatchesRequestSchema, WatchRequestSchema, WatchResponse } from '../gen/foundry/edge/v1/edge_service_pb';

/** Options of a call to the edge: the session key, and how to abort it. */
export interface EdgeCall {
  sessionKey: string;
  signal: AbortSignal;
}

/** The two calls of the edge that subscriptions need. */
export interface WatchTransport {
  watch(request: MessageInitShape<typeof WatchRequestSchema>, call: EdgeCall): AsyncIterable<WatchResponse>;
  modify(request: MessageInitShape<typeof ModifyWatchesRequestSchema>, call: EdgeCall): Promise<unknown>;
}
