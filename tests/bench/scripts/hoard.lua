-- Holds as many megabytes as the query string says, in strings of a kilobyte which are all different.
function main(env, con)
  local held = {}
  for number = 1, 1024 * tonumber(env.QUERY_STRING) do
    held[number] = ("%08d"):format(number):rep(128)
  end
  con:puts("held " .. env.QUERY_STRING .. " MB\n")
end
