export { NewTaskDialog } from './NewTaskDialog'
