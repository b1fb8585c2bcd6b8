/** Longest time that the first rendering waits for fonts, in milliseconds. */
export const MAX_FONT_WAIT = 200

/** A letter or two of each font file; `index.html` preloads the files, so that they load before any script runs. */
const SAMPLES = [
  ['14px "Inter Variable"', 'a'],
  ['13px "Fira Code Variable"', 'a─'],
] as const

/**
 * Uses the page's own fonts if they are loaded by the first rendering. The choice stands until the page is reloaded:
 * a font that changed later would move what a person is about to press. Never rejects.
 */
export async function chooseFonts(): Promise<void> {
  const loaded = Promise.all(SAMPLES.map(([font, text]) => document.fonts.load(font, text)))
  const late = new Promise<undefined>((resolve) => setTimeout(() => resolve(undefined), MAX_FONT_WAIT))
  const faces = await Promise.race([loaded, late]).catch(() => undefined)
  // A browser that refuses fonts of pages loads none.
  if (faces?.every((each) => each.length > 0)) document.documentElement.dataset['fonts'] = 'own'
}
