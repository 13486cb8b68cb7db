function main(env, con)
  con:puts("begun\n")
  con:flush()
  local text = ""
  while true do
    for number = 1, 1e9 do
      text = ("x"):rep(1000) .. number
    end
  end
end
