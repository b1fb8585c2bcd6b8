import { lazyDialog } from './lazyPart'

/** Asks before something that cannot be taken back. */
export const ConfirmDialog = lazyDialog('The question could not be asked', () => import('./ConfirmDialog').then((it) => it.ConfirmDialog))
