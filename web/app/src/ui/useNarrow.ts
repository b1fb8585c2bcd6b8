import { useMediaQuery } from '@mantine/hooks'

/** Whether the window is as narrow as a phone: lists become drawers, and large dialogs fill the screen. */
export function useNarrow(): boolean {
  return useMediaQuery('(max-width: 48em)', undefined, { getInitialValueInEffect: false }) === true
}
