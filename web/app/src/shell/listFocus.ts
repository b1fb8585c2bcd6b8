/** Id of the filter field of the task list. */
export const FILTER_ID = 'task-filter'

/** Moves the focus into the filter of the task list, where one is on the screen. */
export function focusFilter(): void {
  const field = document.getElementById(FILTER_ID)
  if (!(field instanceof HTMLInputElement)) return
  field.focus()
  field.select()
}
