/** How long the first rendering waits for fonts at most, in milliseconds. */
export const MAX_FONT_WAIT = 200

/** A letter or two of each file; `index.html` names the files, so that they are on their way before any script runs. */
const SAMPLES = [
  ['14px "Inter Variable"', 'a'],
  ['13px "Fira Code Variable"', 'a─'],
] as const

/**
 * Uses the page's own fonts if they are here by the first rendering. The choice stands until the page is loaded anew:
 * a font that took over later would move what someone is about to press. Never rejects.
 */
export async function chooseFonts(): Promise<void> {
  const loaded = Promise.all(SAMPLES.map(([font, text]) => document.fonts.load(font, text)))
  const late = new Promise<undefined>((resolve) => setTimeout(() => resolve(undefined), MAX_FONT_WAIT))
  const faces = await Promise.race([loaded, late]).catch(() => undefined)
  // A browser that refuses fonts of pages knows none.
  if (faces?.every((each) => each.length > 0)) document.documentElement.dataset['fonts'] = 'own'
}
