function main(env, con)
  con:puts("begun\n")
  con:flush()
  while true do
  end
end
