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

/** A client of a service whose unary calls carry the session key and fail with `FoundryError`. */
export function sessionClient<S extends DescService>(service: S, transport: Transport, session: CallSession): Client<S> {
  const client = createClient(service, transport);
  const wrapped: Record<string, unknown> = {};
  for (const { localName, methodKind } of service.methods) {
    if (methodKind !== 'unary') continue;
    // Clients are mapped types over the methods of a service; each unary one has this shape.
    const call = client[localName as keyof typeof client] as unknown as UnaryCall;
    wrapped[localName] = (request: unknown, options?: CallOptions) => callOnce(call, request, options, session);
  }
  return { ...client, ...wrapped };
}

async function callOnce(call: UnaryCall, request: unknown, options: CallOptions = {}, session: CallSession): Promise<unknown> {
  const key = session.key();
  const headers = new Headers(options.headers);
  if (key !== undefined) headers.set(SESSION_KEY_HEADER, key);
  try {
    return await call(request, { timeoutMs: TIMEOUT_MS, ...options, headers });
  } catch (thrown) {
    const error = FoundryError.from(thrown);
    if (error.code === Code.Unauthenticated && key !== undefined) session.refused(key, error);
    throw error;
  }
}
