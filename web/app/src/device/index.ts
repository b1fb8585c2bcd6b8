export { DevicePage } from './DevicePage'
