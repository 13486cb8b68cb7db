return function(env)
  local function body()
    coroutine.yield((uwsgi and "uWSGI " .. uwsgi.version .. ", " or "") .. _VERSION)
  end
  return 200, { ["Content-Type"] = "text/html" }, coroutine.wrap(body)
end
