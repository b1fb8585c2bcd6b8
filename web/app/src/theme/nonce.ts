/** The nonce of the server for style elements; empty where there is none (development, tests). */
export function styleNonce(): string {
  const content = document.querySelector('meta[name="csp-nonce"]')?.getAttribute('content') ?? ''
  return content === '__CSP_NONCE__' ? '' : content
}

/**
 * Passes the nonce to libraries that look for it by the bundlers' name for it. Called once, before anything renders.
 */
export function shareStyleNonce(): void {
  const nonce = styleNonce()
  if (nonce !== '') Object.assign(globalThis, { __webpack_nonce__: nonce })
}
