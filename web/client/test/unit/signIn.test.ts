import { Code } from '@connectrpc/connect';
import { expect, test } from 'vitest';
import { beginSignIn, loadSignInWays } from '../../src/signIn';

function answering(status: number, body: unknown, seen: Request[] = []): typeof fetch {
  return async (input, init) => {
    seen.push(new Request(input as string, init));
    return new Response(typeof body === 'string' ? body : JSON.stringify(body), { status });
  };
}

const GATEWAY = 'http://127.0.0.1:7100';

test('the ways are read, and what is no way is left out', async () => {
  const sent = {
    ways: [{ name: 'github', title: 'GitHub', kind: 'github' }, { name: 7 }, null],
    development: false,
    set_up_required: true,
    public_url: GATEWAY,
  };
  expect(await loadSignInWays(answering(200, sent), GATEWAY)).toEqual({
    ways: [{ name: 'github', title: 'GitHub', kind: 'github' }],
    development: false,
    setUpRequired: true,
    publicUrl: GATEWAY,
  });
});

test('a beginning sends what the first owner entered, as JSON to the own gateway', async () => {
  const seen: Request[] = [];
  const begun = { sign_in_id: 'sgn_1', claim: 'c', url: 'https://provider.example/?x=1' };
  const fetch = answering(200, begun, seen);
  const got = await beginSignIn(fetch, GATEWAY, 'a/b', { secret: 's', organization: 'acme' });
  expect(got).toEqual({ signInId: 'sgn_1', claim: 'c', url: begun.url });
  expect(seen[0]?.url).toBe(`${GATEWAY}/auth/begin/a%2Fb`);
  expect(await seen[0]?.json()).toEqual({ set_up_secret: 's', organization: 'acme' });
});

test('the browser is sent to web addresses only', async () => {
  for (const url of ['javascript:alert(1)', 'data:text/html,x', '/sign-in', '', 7]) {
    const fetch = answering(200, { sign_in_id: 'sgn_1', claim: 'c', url });
    await expect(beginSignIn(fetch, GATEWAY, 'github')).rejects.toMatchObject({ code: Code.Internal });
  }
});

test('a refusal keeps its reason', async () => {
  const fetch = answering(401, { reason: 'SET_UP_SECRET_WRONG', message: 'no' });
  const refused = { code: Code.Unauthenticated, reason: 'SET_UP_SECRET_WRONG', message: 'no' };
  await expect(beginSignIn(fetch, GATEWAY, 'github')).rejects.toMatchObject(refused);
  await expect(loadSignInWays(answering(502, '<html>'), GATEWAY)).rejects.toMatchObject({ code: Code.Internal });
});
