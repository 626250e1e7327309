import { task } from "@trigger.dev/sdk";

export const hello = task({
  id: "hello",
  run: async (payload, { ctx }) => ({ greeting: `hello ${payload.name}`, run: ctx.run.id, pid: process.pid }),
});
