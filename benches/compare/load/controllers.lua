-- Run controllers: each connection holds one long poll and polls again when it is answered.
-- The headers are the ones that a runner's fetch sends.
wrk.method = "GET"
wrk.path = "/warm-start"
wrk.headers["x-trigger-workload-controller-id"] = "controller_cmbq3v1k20004l508h2d9c7xe"
wrk.headers["x-trigger-deployment-id"] = "deployment_bench00000000"
wrk.headers["x-trigger-deployment-version"] = "20260714.3"
wrk.headers["x-trigger-machine-cpu"] = "0.5"
wrk.headers["x-trigger-machine-memory"] = "0.5"
wrk.headers["x-trigger-worker-instance-name"] = "worker-eu-central-1-07"
wrk.headers["accept"] = "*/*"
wrk.headers["accept-language"] = "*"
wrk.headers["sec-fetch-mode"] = "cors"
wrk.headers["user-agent"] = "node"
wrk.headers["accept-encoding"] = "gzip, deflate"

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{"answered":%d,"errors":%d}\n',
    summary.requests, e.connect + e.read + e.write + e.status + e.timeout))
end
