function main(env, con)
  con:puts("Hello, world!\n")
end
