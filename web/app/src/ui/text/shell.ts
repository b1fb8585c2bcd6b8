/** A word for a shell, in quotes if it needs them: names of branches may have almost any character. */
export function quoted(word: string): string {
  return /^[A-Za-z0-9._/+@:-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`
}
