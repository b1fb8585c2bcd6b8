import { Code } from '@connectrpc/connect';
import { FoundryError } from './errors';

/** An identity provider to sign in with. */
export interface SignInWay {
  readonly name: string;
  readonly title: string;
  readonly kind: 'github' | 'openid';
}

/** How one can sign in at a gateway. */
export interface SignInWays {
  readonly ways: readonly SignInWay[];
  /** Whether the secret of the data directory and a name are enough; never together with providers. */
  readonly development: boolean;
  /** Whether there is no owner yet. */
  readonly setUpRequired: boolean;
  /** The origin at which a sign-in at a provider can begin; empty when none is configured. */
  readonly publicUrl: string;
}

/** A sign-in that has begun. The claim is secret: the session needs it and the secret of the return. */
export interface BegunSignIn {
  readonly signInId: string;
  readonly claim: string;
  /** Address of the provider, over HTTP or HTTPS. */
  readonly url: string;
}

/** What makes the first owner. */
export interface SetUp {
  readonly secret: string;
  readonly organization: string;
}

type Fetch = typeof globalThis.fetch;

/**
 * Loads the ways to sign in.
 * @throws FoundryError
 */
export async function loadSignInWays(fetch: Fetch, baseUrl: string): Promise<SignInWays> {
  const sent = await call(fetch, `${baseUrl}/auth/ways`, { method: 'GET' });
  const ways = Array.isArray(sent.ways) ? sent.ways.flatMap(way) : [];
  return {
    ways,
    development: sent.development === true,
    setUpRequired: sent.set_up_required === true,
    publicUrl: typeof sent.public_url === 'string' ? sent.public_url : '',
  };
}

/**
 * Begins a sign-in at a provider.
 * @throws FoundryError
 */
export async function beginSignIn(fetch: Fetch, baseUrl: string, provider: string, setUp?: SetUp): Promise<BegunSignIn> {
  const body = setUp === undefined ? {} : { set_up_secret: setUp.secret, organization: setUp.organization };
  const sent = await call(fetch, `${baseUrl}/auth/begin/${encodeURIComponent(provider)}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  const { sign_in_id: signInId, claim, url } = sent;
  if (typeof signInId !== 'string' || typeof claim !== 'string' || !isWebAddress(url)) throw unusable();
  return { signInId, claim, url };
}

function way(sent: unknown): SignInWay[] {
  const { name, title, kind } = (sent ?? {}) as Record<string, unknown>;
  if (typeof name !== 'string' || typeof title !== 'string') return [];
  return [{ name, title, kind: kind === 'github' ? 'github' : 'openid' }];
}

function isWebAddress(url: unknown): url is string {
  if (typeof url !== 'string' || !URL.canParse(url)) return false;
  return ['https:', 'http:'].includes(new URL(url).protocol);
}

async function call(fetch: Fetch, url: string, request: RequestInit): Promise<Record<string, unknown>> {
  let response: Response;
  try {
    response = await fetch(url, { ...request, cache: 'no-store', redirect: 'error' });
  } catch (thrown) {
    throw FoundryError.from(thrown);
  }
  const sent = (await response.json().catch(() => undefined)) as unknown;
  if (typeof sent !== 'object' || sent === null) throw unusable();
  if (response.ok) return sent as Record<string, unknown>;
  const { reason, message } = sent as Record<string, unknown>;
  throw new FoundryError({
    code: CODES[response.status] ?? Code.Internal,
    reason: typeof reason === 'string' ? reason : '',
    message: typeof message === 'string' ? message : `The gateway answered with status ${String(response.status)}.`,
  });
}

const CODES: Record<number, Code> = {
  400: Code.InvalidArgument,
  401: Code.Unauthenticated,
  403: Code.PermissionDenied,
  404: Code.NotFound,
  409: Code.FailedPrecondition,
  429: Code.ResourceExhausted,
  503: Code.Unavailable,
};

function unusable(): FoundryError {
  return new FoundryError({ code: Code.Internal, message: 'The answer of the gateway cannot be read.' });
}
