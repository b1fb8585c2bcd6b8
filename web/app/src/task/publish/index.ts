import { lazyDialog } from '../../ui'

export const PublishDialog = lazyDialog('The dialog to publish could not be opened', () => import('./PublishForm').then((it) => it.default))
