/**
 * The way back to a program on this machine. What the mesh sends is checked here again: a page must never be led to another
 * host or to a script.
 */
export function loopbackUrl(url: string): string | undefined {
  if (!URL.canParse(url)) return undefined
  const { protocol, hostname, port, username, password, pathname, href } = new URL(url)
  const own = protocol === 'http:' && hostname === '127.0.0.1' && port !== '' && username === '' && password === '' && pathname === '/'
  return own ? href : undefined
}
