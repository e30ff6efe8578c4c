# cpack: a Debian package with the program, the library, the model in the box, a systemd unit, and what the program says of
# its own flags: a man page and completion scripts.
add_custom_command(TARGET longspan POST_BUILD
                   COMMAND longspan help man > ${CMAKE_BINARY_DIR}/longspan.1
                   COMMAND gzip -9nf ${CMAKE_BINARY_DIR}/longspan.1
                   COMMAND longspan help bash > ${CMAKE_BINARY_DIR}/longspan.bash
                   COMMAND longspan help zsh > ${CMAKE_BINARY_DIR}/longspan.zsh
                   BYPRODUCTS ${CMAKE_BINARY_DIR}/longspan.1.gz ${CMAKE_BINARY_DIR}/longspan.bash
                              ${CMAKE_BINARY_DIR}/longspan.zsh
                   VERBATIM)
install(FILES ${CMAKE_BINARY_DIR}/longspan.1.gz DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${CMAKE_BINARY_DIR}/longspan.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
        RENAME longspan)
install(FILES ${CMAKE_BINARY_DIR}/longspan.zsh DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions
        RENAME _longspan)
install(FILES packaging/grafana-dashboard.json DESTINATION ${CMAKE_INSTALL_DATADIR}/longspan)
install(FILES packaging/longspan.service DESTINATION lib/systemd/system)
install(FILES README.md LICENSE docs/serving.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES models/recall-moe/config.json models/recall-moe/generation_config.json models/recall-moe/model.safetensors
              models/recall-moe/tokenizer.json models/recall-moe/tokenizer_config.json models/recall-moe/recall.json
              models/recall-moe/filler.txt models/recall-moe/README.md
        DESTINATION ${CMAKE_INSTALL_DATADIR}/longspan/models/recall-moe)
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_CONTACT "Longspan <longspan@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Long prompts for large language models on several ranks")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_STRIP_FILES ON)
include(CPack)
