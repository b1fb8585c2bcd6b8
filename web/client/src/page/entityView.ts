/** A read-only view of a map. Each change of a topic makes a new one, at no cost, so that React notices it. */
export class EntityView<T> implements ReadonlyMap<string, T> {
  constructor(private readonly map: ReadonlyMap<string, T>) {}

  get size(): number {
    return this.map.size;
  }

  get(key: string): T | undefined {
    return this.map.get(key);
  }

  has(key: string): boolean {
    return this.map.has(key);
  }

  keys(): MapIterator<string> {
    return this.map.keys();
  }

  values(): MapIterator<T> {
    return this.map.values();
  }

  entries(): MapIterator<[string, T]> {
    return this.map.entries();
  }

  [Symbol.iterator](): MapIterator<[string, T]> {
    return this.map.entries();
  }

  forEach(visit: (value: T, key: string, map: ReadonlyMap<string, T>) => void): void {
    for (const [key, value] of this.map) visit(value, key, this);
  }
}
