function main(env, con)
  con:header("Content-Type", "text/plain; charset=utf-8")
  local line = string.rep("0123456789", 10):sub(1, 99) .. "\n"
  con:puts(string.rep(line, 1024))
end
