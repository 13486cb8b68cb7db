return function(env)
  local body = env.input:read(tonumber(env.CONTENT_LENGTH))
  local function answer()
    coroutine.yield(#body .. " bytes, the last of them " .. body:sub(-10) .. "\n")
  end
  return 200, { ["Content-Type"] = "text/plain; charset=utf-8" }, coroutine.wrap(answer)
end
