// The smallest deployed project: what the build would have put beside index.json.
export default { project: "proj_compat", dirs: ["."], maxDuration: 60, enableConsoleLogging: false };
