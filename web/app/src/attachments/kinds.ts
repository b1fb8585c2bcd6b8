const PICTURES = new Set(['image/png', 'image/jpeg', 'image/gif', 'image/webp'])

/** Whether a file of this type is shown as a picture; everything else, SVG too, is only named and can be saved. */
export function isPicture(mediaType: string): boolean {
  return PICTURES.has(mediaType)
}

const reasons: Readonly<Record<string, string>> = {
  ATTACHMENT_TOO_LARGE: 'too large to be kept',
  ATTACHMENT_MALFORMED: 'it could not be read',
  ATTACHMENT_NOT_SENT: 'the agent named it without sending it',
  ATTACHMENT_STORE_UNAVAILABLE: 'it could not be stored',
  LIMIT_REACHED: 'there was no room left for it',
}

/** Why a file was not kept, in words. */
export function reasonText(reason: string): string {
  return reasons[reason] ?? reason
}
