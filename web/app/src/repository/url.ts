/** Why a URL cannot be that of a repository; the service checks the rest. Undefined when it may. */
export function urlProblem(url: string): string | undefined {
  const text = url.trim()
  if (text === '') return 'The URL is required.'
  if (text.startsWith('/') || /^https:\/\/[^/\s]+\/\S+$/i.test(text)) return undefined
  return 'Enter an https URL or an absolute path.'
}

/** The name that a repository gets when none is given: the last part of its URL. */
export function nameFromUrl(url: string): string {
  const last = url.trim().replace(/\/+$/, '').split('/').pop() ?? ''
  return last.replace(/\.git$/, '')
}
