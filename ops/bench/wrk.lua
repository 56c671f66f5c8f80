-- The request comes in the environment, not on the command line, where others could read the token.
wrk.method = os.getenv("BENCH_METHOD")
if os.getenv("BENCH_BODY") ~= "" then
  wrk.body = os.getenv("BENCH_BODY")
  wrk.headers["Content-Type"] = "application/json"
end
if os.getenv("BENCH_TOKEN") ~= "" then
  wrk.headers["Authorization"] = "Bearer " .. os.getenv("BENCH_TOKEN")
end

-- One line of JSON, the last of the output. `status` counts answers of 400 and above.
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format('{"answers": %d, "seconds": %.6f, "mean_ms": %.3f, "p99_ms": %.3f, "bad_status": %d, '
    .. '"bad_connections": %d, "timeouts": %d}\n', summary.requests, summary.duration / 1e6, latency.mean / 1e3,
    latency:percentile(99) / 1e3, errors.status, errors.connect + errors.read + errors.write, errors.timeout))
end
