/** The logo; decorative, because the name is next to it. */
export function Logo({ size = 22 }: { size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="8" fill="var(--fd-accent)" />
      <path d="M9 9h14v4H13.5v3.5H21v4h-7.5V24H9z" fill="#fff" />
    </svg>
  )
}
