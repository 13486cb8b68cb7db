function main(env, con)
  local engine = _VERSION
  if jit and jit.version then
    engine = jit.version
  end
  if jit and jit.status then
    engine = engine .. (jit.status() and ", JIT on" or ", JIT off")
  end
  con:puts(engine)
end
