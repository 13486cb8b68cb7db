-- The one app that uWSGI takes: it calls the script of the request, which it has loaded once.
-- What is loaded here is shared by all processes, since they fork afterwards.
pcall(require, "socket.core")

local scripts = {}

return function(env)
  local path = env.SCRIPT_FILENAME
  local script = scripts[path]
  if not script then
    script = dofile(path)
    scripts[path] = script
  end
  return script(env)
end
