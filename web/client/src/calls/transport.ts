import { createClient, type Transport } from '@connectrpc/connect';
import { createGrpcWebTransport } from '@connectrpc/connect-web';
import { EdgeService } from '../gen/foundry/edge/v1/edge_service_pb';
import { newRequestId } from '../requestId';
import type { EdgeCall, WatchTransport } from '../watch/transport';
import { REQUEST_ID_HEADER, SESSION_KEY_HEADER } from './headers';

const MODIFY_TIMEOUT_MS = 10_000;

/** Where calls go. */
export interface CallOptions {
  /** Address of the gateway. */
  baseUrl: string;
  /** Sends requests; default: the platform's `fetch`, with the cookies of the page's own origin. */
  fetch?: typeof globalThis.fetch;
}

/** gRPC-Web with binary messages; every call has an id that appears in its log lines. */
export function callTransport({ baseUrl, fetch = globalThis.fetch }: CallOptions): Transport {
  return createGrpcWebTransport({
    baseUrl,
    fetch: (input, init) => fetch(input, { ...init, credentials: 'same-origin' }),
    interceptors: [
      (next) => (request) => {
        if (!request.header.has(REQUEST_ID_HEADER)) request.header.set(REQUEST_ID_HEADER, newRequestId());
        return next(request);
      },
    ],
  });
}

/** The edge over gRPC-Web. The stream has no timeout: missing heartbeats end it. */
export function watchTransport(options: CallOptions): WatchTransport {
  const edge = createClient(EdgeService, callTransport(options));
  const call = ({ sessionKey, signal }: EdgeCall) => ({ signal, headers: { [SESSION_KEY_HEADER]: sessionKey } });
  return {
    watch: (request, edgeCall) => edge.watch(request, call(edgeCall)),
    modify: (request, edgeCall) => edge.modifyWatches(request, { ...call(edgeCall), timeoutMs: MODIFY_TIMEOUT_MS }),
  };
}
