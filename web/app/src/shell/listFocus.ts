/** Id of the filter field of the task list. */
export const FILTER_ID = 'task-filter'

/** Moves the focus to the filter of the task list, if one is on the screen. */
export function focusFilter(): void {
  const field = document.getElementById(FILTER_ID)
  if (!(field instanceof HTMLInputElement)) return
  field.focus()
  field.select()
}
