import type { DescService } from '@bufbuild/protobuf';
import { Code, createClient, type CallOptions, type Client, type Transport } from '@connectrpc/connect';
import { FoundryError } from '../errors';
import { SESSION_KEY_HEADER } from './headers';

const TIMEOUT_MS = 20_000;

/** The session as calls need it. */
export interface CallSession {
  /** The present session key. */
  key(): string | undefined;
  /** Reports that a call under this key was refused as unauthenticated. */
  refused(sessionKey: string, error: FoundryError): void;
}

type UnaryCall = (request: unknown, options?: CallOptions) => Promise<unknown>;
type StreamCall = (request: unknown, options?: CallOptions) => AsyncIterable<unknown>;

/** A client of a service whose calls carry the session key and fail with `FoundryError`. Watches go another way. */
export function sessionClient<S extends DescService>(service: S, transport: Transport, session: CallSession): Client<S> {
  const client = createClient(service, transport);
  const wrapped: Record<string, unknown> = {};
  for (const { localName, methodKind } of service.methods) {
    // Clients are mapped types over the methods of a service; those of one kind have one shape.
    const call: unknown = client[localName as keyof typeof client];
    if (methodKind === 'unary')
      wrapped[localName] = (request: unknown, options?: CallOptions) => callOnce(call as UnaryCall, request, options, session);
    if (methodKind === 'server_streaming')
      wrapped[localName] = (request: unknown, options?: CallOptions) => answers(call as StreamCall, request, options, session);
  }
  return { ...client, ...wrapped };
}

async function callOnce(call: UnaryCall, request: unknown, options: CallOptions = {}, session: CallSession): Promise<unknown> {
  const { key, headers } = authorized(options, session);
  try {
    return await call(request, { timeoutMs: TIMEOUT_MS, ...options, headers });
  } catch (thrown) {
    throw failed(thrown, key, session);
  }
}

/** The answers of a call in their order. It has no timeout: its end depends on how much there is. */
async function* answers(call: StreamCall, request: unknown, options: CallOptions = {}, session: CallSession): AsyncIterable<unknown> {
  const { key, headers } = authorized(options, session);
  try {
    yield* call(request, { ...options, headers });
  } catch (thrown) {
    throw failed(thrown, key, session);
  }
}

function authorized(options: CallOptions, session: CallSession): { key: string | undefined; headers: Headers } {
  const key = session.key();
  const headers = new Headers(options.headers);
  if (key !== undefined) headers.set(SESSION_KEY_HEADER, key);
  return { key, headers };
}

function failed(thrown: unknown, key: string | undefined, session: CallSession): FoundryError {
  const error = FoundryError.from(thrown);
  if (error.code === Code.Unauthenticated && key !== undefined) session.refused(key, error);
  return error;
}
