export { TaskPage } from './TaskPage'
