function main(env, con)
  con:header("Content-Type", "text/plain; charset=utf-8")
  local body = con:gets()
  con:puts(#body .. " bytes, the last of them " .. body:sub(-10) .. "\n")
end
