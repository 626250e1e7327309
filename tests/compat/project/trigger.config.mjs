// The smallest deployed project: the file that the build would put next to index.json.
export default { project: "proj_compat", dirs: ["."], maxDuration: 60, enableConsoleLogging: false };
