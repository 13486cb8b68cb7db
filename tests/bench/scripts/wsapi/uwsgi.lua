-- The one app that uWSGI takes: it calls the script of the request, which it has loaded once.
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
