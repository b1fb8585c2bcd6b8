import { lazyDialog } from '../../ui'

export const ActionDialog = lazyDialog('The actions could not be opened', () => import('./ActionForm').then((it) => it.default))
