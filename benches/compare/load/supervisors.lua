-- Supervisors: each connection sends the next dispatch when the last is answered.
-- "hits" counts warm dispatches (the body says true), "misses" cold ones (any other 200), as the raw figures name them.
local threads = {}
hits, misses = 0, 0

function setup(thread)
  threads[#threads + 1] = thread
end

function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.method = "POST"
  wrk.path = "/warm-start"
  wrk.body = file:read("*a")
  file:close()
  wrk.headers["content-type"] = "application/json"
  wrk.headers["traceparent"] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
  wrk.headers["accept"] = "*/*"
  wrk.headers["accept-language"] = "*"
  wrk.headers["sec-fetch-mode"] = "cors"
  wrk.headers["user-agent"] = "node"
  wrk.headers["accept-encoding"] = "gzip, deflate"
end

function response(status, headers, body)
  if status == 200 and body:find("true", 1, true) then
    hits = hits + 1
  elseif status == 200 then
    misses = misses + 1
  end
end

function done(summary, latency, requests)
  local h, m = 0, 0
  for _, thread in ipairs(threads) do
    h = h + thread:get("hits")
    m = m + thread:get("misses")
  end
  local e = summary.errors
  io.write(string.format(
    '{"hits":%d,"misses":%d,"duration_us":%d,"p50_us":%d,"p95_us":%d,"p99_us":%d,"max_us":%d,"errors":%d}\n',
    h, m, summary.duration, latency:percentile(50), latency:percentile(95), latency:percentile(99), latency.max,
    e.connect + e.read + e.write + e.status + e.timeout))
end
