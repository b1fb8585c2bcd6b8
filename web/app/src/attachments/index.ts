export { AttachButton, UploadList } from './UploadList'
export { StoredFile, StoredFiles } from './StoredFile'
export { useUploads, type UploadField } from './useUploads'
