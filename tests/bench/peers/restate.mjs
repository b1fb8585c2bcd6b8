// The handlers that Restate runs in `make bench`: `node restate.mjs PORT`, from a directory with Restate's SDK.
import { createServer } from 'node:http2';
import { createEndpointHandler, service } from '@restatedev/restate-sdk';

// The SDK calls it; Node has it from version 22 on.
Promise.withResolvers ??= () => {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
};

const bench = service({
  name: 'bench',
  handlers: {
    // As our flow: seven steps that do nothing, each of them durable.
    seven: async (ctx) => {
      for (const step of ['one', 'two', 'three', 'four', 'five', 'six', 'seven']) {
        await ctx.run(step, () => undefined);
      }
    },
  },
});

createServer(createEndpointHandler({ services: [bench] })).listen(Number(process.argv[2]), '127.0.0.1');
