/** The nonce that the server put into the page for style elements; empty where there is none (development, tests). */
export function styleNonce(): string {
  const content = document.querySelector('meta[name="csp-nonce"]')?.getAttribute('content') ?? ''
  return content === '__CSP_NONCE__' ? '' : content
}

/** Hands the nonce to libraries that ask for it by the name that bundlers use. Called once, before anything renders. */
export function shareStyleNonce(): void {
  const nonce = styleNonce()
  if (nonce !== '') Object.assign(globalThis, { __webpack_nonce__: nonce })
}
