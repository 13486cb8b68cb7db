-- A hello, after as many seconds as the query string says.
function main(env, con)
  local seconds = tonumber(env.QUERY_STRING)
  if seconds then
    con:sleep(seconds)
  end
  con:puts("Hello, world!\n")
end
