-- A hello, after as many seconds as the query string says.
local socket = require("socket.core")

return function(env)
  local seconds = tonumber(env.QUERY_STRING)
  if seconds then
    socket.sleep(seconds)
  end
  local function body()
    coroutine.yield("Hello, world!\n")
  end
  return 200, { ["Content-Type"] = "text/html" }, coroutine.wrap(body)
end
