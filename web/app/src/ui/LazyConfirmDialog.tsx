import { lazyDialog } from './lazyPart'

/** Asks before something that cannot be undone. */
export const ConfirmDialog = lazyDialog('The confirmation dialog could not be opened', () =>
  import('./ConfirmDialog').then((it) => it.ConfirmDialog),
)
