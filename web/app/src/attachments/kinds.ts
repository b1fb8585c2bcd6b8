const PICTURES = new Set(['image/png', 'image/jpeg', 'image/gif', 'image/webp'])

/** Whether a file of this type is shown as a picture; everything else, SVG too, has only its name and can be saved. */
export function isPicture(mediaType: string): boolean {
  return PICTURES.has(mediaType)
}

const reasons: Readonly<Record<string, string>> = {
  ATTACHMENT_TOO_LARGE: 'too large',
  ATTACHMENT_MALFORMED: 'could not be read',
  ATTACHMENT_NOT_SENT: 'the agent did not send its content',
  ATTACHMENT_STORE_UNAVAILABLE: 'the file store is unavailable',
  LIMIT_REACHED: 'no storage left',
}

/** Why a file was not kept, for people. */
export function reasonText(reason: string): string {
  return reasons[reason] ?? reason
}
