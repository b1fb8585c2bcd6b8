/** Why a URL cannot be that of a repository; the service checks the rest. Undefined when it may. */
export function urlProblem(url: string): string | undefined {
  const text = url.trim()
  if (text === '') return 'The URL is required.'
  if (/^https?:\/\/[^/\s]*@/i.test(text)) return 'Enter the URL without a user name or token. Its credential is stored after it is added.'
  if (text.startsWith('/') || /^(https?|ssh):\/\/[^/\s]+\/\S+$/i.test(text) || /^[^\s@/]+@[^\s:/]+:\S+$/.test(text)) return undefined
  return 'Enter an https or ssh URL, or an absolute path.'
}

/** The name that a repository gets when none is given: the last part of its URL. */
export function nameFromUrl(url: string): string {
  const last = url.trim().replace(/\/+$/, '').split('/').pop() ?? ''
  return last.replace(/\.git$/, '')
}

/** Scheme, host and port of a remote, as its credentials name them; undefined for a local path. */
export function originOf(url: string): string | undefined {
  const http = /^https?:\/\//i.test(url) && URL.canParse(url) ? new URL(url).origin : undefined
  if (http !== undefined) return http
  const long = /^ssh:\/\/[^@/]+@([^/]+)\//i.exec(url)?.[1]
  const short = url.includes('://') || url.startsWith('/') ? undefined : /^[^@/]+@([^:/]+):/.exec(url)?.[1]
  const host = (long ?? short)?.toLowerCase().replace(/:22$/, '')
  return host === undefined ? undefined : `ssh://${host}`
}

/** The host of a remote, without a port; undefined for a local path. */
export function hostOf(url: string): string | undefined {
  const origin = originOf(url)
  if (origin === undefined) return undefined
  return origin.slice(origin.indexOf('://') + 3).replace(/:\d+$/, '')
}
