/** The fonts that a browser finds on its machine: one family, so that no width depends on what is installed. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

const { resolve } = createRequire(import.meta.url);

/** Files of the families; the wide one is the only font of a bare Debian. */
const FAMILIES = {
  wide: ['dejavu-fonts-ttf/ttf/DejaVuSans.ttf', 'dejavu-fonts-ttf/ttf/DejaVuSans-Bold.ttf'],
  narrow: [
    '@expo-google-fonts/pt-sans-narrow/400Regular/PTSansNarrow_400Regular.ttf',
    '@expo-google-fonts/pt-sans-narrow/700Bold/PTSansNarrow_700Bold.ttf',
  ],
};

/** The family named by `FOUNDRY_STORY_FONT`; default: the wide one. Throws for an unknown name. */
function family(): readonly string[] {
  const name = process.env['FOUNDRY_STORY_FONT'] ?? 'wide';
  if (name !== 'wide' && name !== 'narrow') throw new Error(`FOUNDRY_STORY_FONT is wide or narrow, not ${name}`);
  return FAMILIES[name];
}

/** Whether the page may load fonts of its own: unless `FOUNDRY_STORY_PAGE_FONTS` is `refused`. */
export function pageFontsRefused(): boolean {
  return process.env['FOUNDRY_STORY_PAGE_FONTS'] === 'refused';
}

/** A configuration of fontconfig with the fonts of one family alone. */
export class SystemFonts {
  private readonly dir = mkdtempSync(join(tmpdir(), 'foundry-fonts-'));
  /** Where the configuration is, for `FONTCONFIG_FILE`. */
  readonly file = join(this.dir, 'fonts.conf');

  constructor() {
    const fonts = join(this.dir, 'fonts');
    mkdirSync(fonts);
    for (const each of family()) symlinkSync(resolve(each), join(fonts, basename(each)));
    writeFileSync(
      this.file,
      `<?xml version="1.0"?>\n<fontconfig><dir>${fonts}</dir><cachedir>${join(this.dir, 'cache')}</cachedir></fontconfig>\n`,
    );
  }

  /** Removes it, once the browser has ended. */
  remove(): void {
    rmSync(this.dir, { recursive: true, force: true });
  }
}
