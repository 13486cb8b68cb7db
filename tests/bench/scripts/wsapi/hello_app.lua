return function(env)
  local function body()
    coroutine.yield("Hello, world!\n")
  end
  return 200, { ["Content-Type"] = "text/html" }, coroutine.wrap(body)
end
